"""What happens on a node: prolog and epilog as root, the launcher as the user."""
