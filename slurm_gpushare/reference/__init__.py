"""What is documented by the code itself: pages of docs/, man pages, shell completions.

``python -m slurm_gpushare.reference docs FOLDER`` writes the pages, ``man FOLDER`` and ``completion FOLDER`` the rest.
"""
