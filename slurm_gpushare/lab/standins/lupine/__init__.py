"""A stand-in for LUPINE, GPU over IP: its server, and the two shim libraries that a client's programs load.

It does what LUPINE's README documents of ports, environment variables and library names, and refuses the rest; choices
where nothing is documented, and simplifications, are in assumed.h. The original speaks HTTP/2 between the two; here
they speak the GPU stand-in's lines over TCP (../gpu/protocol.py).
"""
