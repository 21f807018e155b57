"""What is wrong with a set of images, found before hours of search are spent on it."""
