"""The embedded mini web: entities, their drawings, their pages, and the index of both; questions about them for training.

`entities`, `renditions` and `pages` are the world, `world_index` makes it searchable. `facts` and `questions` make tasks of it;
`making` remakes its artwork, `figures` measures it.
"""
