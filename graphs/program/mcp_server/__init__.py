"""The graph as a server of the Model Context Protocol: `lensgraph mcp`, over stdio or HTTP.

`ask_server` answers, `given_picture` reads what a client asks about, `watched_run` reports progress and stops what was
cancelled, `approval_form` asks a person, `episode_shelf` keeps finished questions as resources, `serving` starts a transport
and checks the bearer token.
"""
