// Fetches a URL through the proxy that the environment names: plain fetch ignores it, this agent does not.
import { createRequire } from "node:module";

const { EnvHttpProxyAgent, fetch, setGlobalDispatcher } = createRequire(process.env.TOOLS + "/")("undici");

setGlobalDispatcher(new EnvHttpProxyAgent());
const answer = await fetch(process.argv[2]);
console.log(answer.status, await answer.text());
