"""Whether a user may use the pool's client at all: it reads the token that its servers want from a file.

The places and modes are from its public documentation and from container images that people published: the site's file
is the group bitfusion's (0640), a user's own comes before it (0600). What is in them is read by the client alone.
Standard library only and few imports: the launcher runs for every task.
"""

import os

SITE = "/etc/bitfusion/client.yaml"
OWN = ".bitfusion/client.yaml"  # in the home folder


def refusal(home: str, site: str = SITE) -> str | None:
    """Return why the client would get nothing for this process's user, None where it is for the client to say.

    It would be waited for in vain otherwise: a client that has no token fails as one does whose servers are away.
    """
    if os.access(os.path.join(home, OWN), os.R_OK) or os.access(site, os.R_OK) or not os.path.exists(site):
        return None
    return (
        f"you may not use the Bitfusion pool: {site} is not yours to read and there is no ~/{OWN}: "
        "ask for membership in the group of that file, or for a token of your own"
    )
