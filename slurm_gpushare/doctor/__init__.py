"""`gpushare doctor`: checks of one host, and where one job's way broke."""
