"""Keys of `alignment.train` by what they decide: for the trainings, and for what reruns them. Without torch."""

NOISE = {"objective", "train_denoiser", "second_order", "denoiser"}  # the training on the noise loss alone
MEMORY = {"micro_batch"}  # nothing
