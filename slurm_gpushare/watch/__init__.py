"""The memory watcher of a node: warns or ends jobs that hold more of a GPU's memory than their share."""
