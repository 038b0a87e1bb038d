"""A stand-in for a Bitfusion pool: a server that owns GPUs, and the `bitfusion` command (C, in client/).

It does what is publicly documented or was seen, and refuses the rest; choices where nothing is public are in assumed.h.
The original speaks HTTPS between the two; here they speak lines over TCP (control.py).
"""
