"""What every method shares: layouts, the frozen diffusion model and its loop, grounding tokens, image files.

Tensors carry their axes as a suffix, one letter an axis:

    B  images of a batch            N  patches of the latent grid
    C  channels                     M  objects (boxes) of an image, padded
    H  rows, W  columns             T  text tokens
    D  feature width                2B a batch doubled for classifier-free guidance: [unconditional; conditional]

Boxes are xyxy in the unit square of the generated canvas, origin at the top left.
"""
