"""What of the machine the work needs: each tool and wheel, the version found and the one wanted, and what mends it.

Nothing is written, fetched or installed, and nobody is asked over the network.
"""
