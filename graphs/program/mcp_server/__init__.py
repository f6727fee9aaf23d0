"""The graph as a server of the Model Context Protocol: `lensgraph mcp`, over stdio or HTTP.

`server` answers, `pictures` reads what a client asks about, `running` reports progress and stops what was cancelled,
`episodes` keeps finished questions as resources, `serving` starts a transport and checks the bearer token.
"""
