"""``ptshare report``: many runs as one HTML page that opens offline.

``inputs`` reads, ``groups`` divides the runs, ``figures``, ``flips`` and ``ways`` compute what
each figure shows, ``draw`` draws it, ``page`` writes the page, ``command`` is the command line's.
"""
