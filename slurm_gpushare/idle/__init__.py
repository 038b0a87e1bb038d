"""The idle policy of a cluster: warns the owner of a job that holds its share without use, then ends or requeues it."""
