"""`gpushare study`: what sharing a GPU gains, measured on one's own cluster."""
