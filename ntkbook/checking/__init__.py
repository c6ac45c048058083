"""Whether a layer says of infinite networks what its finite ones do.

In: a layer, a key.  Out: a report on how far its kernel is from those of sampled networks, or an
error that names the two faces that contradict each other.
"""
