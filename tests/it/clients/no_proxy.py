"""Says for each host whether a library goes straight there or through the proxy. Every name is this machine."""

import socket
import sys

library, port, *hosts = sys.argv[1:]
real = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **more: real("127.0.0.1", *rest, **more)


def fetch(url):
    if library == "requests":
        import requests

        return requests.get(url, timeout=10).text
    if library == "httpx":
        import httpx

        return httpx.get(url, timeout=10).text
    import urllib.request

    return urllib.request.urlopen(url, timeout=10).read().decode()


for host in hosts:
    print(host, fetch(f"http://{host}:{port}/"))
