"""Own handwriting: from a photograph or a stroke of the mouse to the image that a network was trained on.

In reading order: paper (where is the ink? with desk, ruled, filters and connected), pieces (which ink is one digit?),
frame (as MNIST frames a digit), look (one file), shown (what the network saw), page (a page to draw on, with layers).
"""
