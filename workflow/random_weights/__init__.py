"""Model folders of random weights: full architectures in the hub's file formats, without any download."""
