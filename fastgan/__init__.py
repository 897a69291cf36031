"""Train large 3D GANs on CT and MRI volumes, then judge whether their volumes may be used."""

__version__ = "0.1.0"
