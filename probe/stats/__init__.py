"""Numbers about numbers: intervals, classification metrics, and whether a difference is real.

Nothing here knows where its arrays come from. scipy and scikit-learn are imported inside the functions that
need them, so that importing this room costs nothing.
"""
