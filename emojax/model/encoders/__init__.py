"""The encoders of images, video and audio, one file each."""
