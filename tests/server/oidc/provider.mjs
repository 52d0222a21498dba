// An OpenID Connect provider on the loopback. Prints its issuer; reads lines of JSON from standard input:
// {"account": {"sub": ..., claims...}} is whom a sign-in by that name makes.
import Provider from 'oidc-provider';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

console.info = console.warn = () => {}; // its notices that this is a rehearsal
const accounts = new Map();
const http = createServer();
http.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${http.address().port}`;
  const provider = new Provider(issuer, {
    clients: ['fota', 'another'].map((client_id) => ({
      client_id,
      token_endpoint_auth_method: 'none',
      grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
      redirect_uris: [],
      response_types: [],
      application_type: 'native',
    })),
    claims: { openid: ['sub', 'groups'], email: ['email', 'email_verified'], profile: ['name'] },
    conformIdTokenClaims: false,
    cookies: { keys: ['of a test'] },
    features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true } },
    findAccount: (_ctx, id) => accounts.has(id) && { accountId: id, claims: () => accounts.get(id) },
  });
  http.on('request', provider.callback());
  createInterface({ input: process.stdin }).on('line', (line) => {
    const { account } = JSON.parse(line);
    accounts.set(account.sub, account);
    console.log(`knows ${account.sub}`);
  }).on('close', () => process.exit(0));
  console.log(issuer);
});
