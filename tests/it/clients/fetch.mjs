// Fetches a URL with Node's own fetch, which knows no proxy.
const answer = await fetch(process.argv[2]);
console.log(answer.status, await answer.text());
