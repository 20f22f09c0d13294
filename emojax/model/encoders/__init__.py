"""The encoders of picture and sound, one file each."""
