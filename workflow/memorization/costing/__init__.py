"""What a plan will cost before anything is run: counted operations, recorded jobs, and rates fitted to both."""
