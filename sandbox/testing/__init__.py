"""Stand-ins that ship with the product, since its demo and its tests need them alike. Nothing here is
loaded by a run.
"""
