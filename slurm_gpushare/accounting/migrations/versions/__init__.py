"""The migrations, in their order; one that was released is not changed any more."""
