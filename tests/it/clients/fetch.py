"""Fetches a URL with the library that is named, which finds proxy and trust in the environment."""

import os
import ssl
import sys

library, url = sys.argv[1:]

if library == "requests":
    import requests

    print(requests.get(url).text)
elif library == "httpx":
    import httpx

    print(httpx.get(url, verify=ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])).text)
else:
    import asyncio

    import aiohttp

    async def main():
        # Only with trust_env does aiohttp look at the proxy variables.
        async with aiohttp.ClientSession(trust_env=True) as session:
            async with session.get(url) as answer:
                print(await answer.text())

    asyncio.run(main())
