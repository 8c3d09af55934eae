"""The ingress controller of the embedded cluster: Ingress objects in, a running nginx out.

`translate` and `nginx_conf` are pure: objects become a `Configuration`, which becomes the text of
``nginx.conf``, as ingress-nginx v1.15.1 would write it for gRPC. `controller` follows the store and
runs nginx. What differs from ingress-nginx: it has no Lua, so that new endpoints come with a reload
(new workers; old ones finish their streams), and it has one worker, so that round robin is exact.
"""
