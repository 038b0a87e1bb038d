"""Stand-ins for what a machine without GPUs lacks: the cards with their driver, and Bitfusion.

They are apart from the product, which does not know them: a job, the agent and Slurm itself meet them only
through the interfaces of the originals (a shared library, a command, a device folder).
What an original does and is not publicly known stands in one table at the top of its engine, marked assumed.
"""
