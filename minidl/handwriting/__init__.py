"""Your own handwriting: from a photograph or a mouse stroke to an image like those the network was trained on.

Reading order: paper (where is the ink? with desk, ruled, filters and connected), pieces (which ink is one digit?),
frame (as MNIST frames a digit), look (one file), shown (what the network saw), page (the drawing page, with layers).
"""
