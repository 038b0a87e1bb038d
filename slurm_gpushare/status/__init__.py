"""`gpushare status`: every GPU of the cluster, who has which share of it, and what is measured of it now."""
