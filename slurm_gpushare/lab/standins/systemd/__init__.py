"""Stand-in for systemctl where no systemd runs: what starts, stops and enables units in a bare lab.

`enable` and `disable` are systemd's own, which needs no manager for them. It refuses verbs and settings of units that
it does not know. What systemd confines a service to (ProtectSystem=…) is not done here.
"""

SYSTEMCTL = "/usr/lib/systemd/systemctl"  # where systemd's own is then
