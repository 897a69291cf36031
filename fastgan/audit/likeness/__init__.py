"""How alike are two volumes, moved, mirrored, bent or of another brightness?"""
