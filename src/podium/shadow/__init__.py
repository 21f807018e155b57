"""Champion and challenger on served images: what is kept of them, the labels that come later, and what follows."""
