"""Networks: thin residual networks for 32×32 images, and the backbones that a student can have."""
