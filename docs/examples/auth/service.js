// An auth service in Node.js, without dependencies.
//
//     node service.js keys.json [port]
//
// keys.json holds the keys, by the user name that clients send, and the plans.
// Secrets are in it as SHA-256, which is right for secrets that a machine has
// made at random:
//
//     key=$(openssl rand -hex 24)
//     printf %s "$key" | openssl dgst -sha256
//
// SIGHUP makes it read the file again.

const crypto = require('crypto');
const fs = require('fs');
const http = require('http');

const [file, port = 8080] = process.argv.slice(2);

if (!file) {
  console.error('usage: node service.js keys.json [port]');
  process.exit(1);
}

let config = load();

process.on('SIGHUP', () => {
  try {
    config = load();
    console.log(`${file} is read`);
  } catch (error) {
    console.error(`${file} is not read, the keys stay: ${error.message}`);
  }
});

function load() {
  const { keys, plans } = JSON.parse(fs.readFileSync(file, 'utf8'));

  for (const [user, key] of Object.entries(keys)) {
    if (!/^[0-9a-f]{64}$/.test(key.sha256)) {
      throw new Error(`key "${user}" has no SHA-256`);
    }
    if (key.plan !== undefined && !plans[key.plan]) {
      throw new Error(`key "${user}" has an unknown plan`);
    }
  }

  return { keys: new Map(Object.entries(keys)), plans };
}

// Octets of a header: Node.js has one character for each, and the relay has
// "%XX" for a blank, "%" and control characters.

function decode(value = '') {
  const text = value.replace(/%([0-9a-fA-F]{2})/g,
    (_, hex) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(text, 'latin1');
}

const hash = (octets) => crypto.createHash('sha256').update(octets).digest();
const nobody = hash(crypto.randomBytes(32));

// The headers of the answer to a request.

function answer(headers) {
  if (!['plain', 'login'].includes(headers['auth-method'])) {
    return { 'Auth-Status': 'Only PLAIN and LOGIN are supported' };
  }

  const user = decode(headers['auth-user']).toString('utf8');
  const key = config.keys.get(user);

  // an unknown user takes as long as a known one

  const wanted = key ? Buffer.from(key.sha256, 'hex') : nobody;
  const right = crypto.timingSafeEqual(hash(decode(headers['auth-pass'])),
                                       wanted);
  if (!key || !right) {
    return { 'Auth-Status': 'Invalid login or password', 'Auth-Wait': '1' };
  }

  if (key.suspended) {
    return {
      'Auth-Status': 'Account suspended, please contact support',
      'Auth-Error-Code': '525 5.7.13',
    };
  }

  const plan = config.plans[key.plan] || {};
  const reply = { 'Auth-Status': 'OK', 'Auth-Account': key.account || user };

  const set = (name, value) => {
    if (value !== undefined) {
      reply[name] = String(value);
    }
  };

  set('Auth-Limit-Conn', plan.connections);
  set('Auth-Limit-Msg', plan.messages);
  set('Auth-Limit-Rcpt', plan.recipients);
  set('Auth-Max-Size', plan.max_size);
  set('Auth-Max-Recipients', plan.max_recipients);
  set('Auth-Upstream', plan.upstream);
  set('Auth-Senders', key.senders && key.senders.join(', '));

  return reply;
}

// Whatever goes wrong here is no denial: with 500 the client reads 454 and
// comes again.

const server = http.createServer((request, response) => {
  try {
    const headers = answer(request.headers);

    if (headers['Auth-Status'] !== 'OK') {
      console.log(`denied: ${JSON.stringify(request.headers['auth-user'])}`
                  + ` from ${request.headers['client-ip']}`);
    }

    response.writeHead(200, { ...headers, 'Content-Length': 0 });
  } catch (error) {
    console.error(error.message);
    response.writeHead(500, { 'Content-Length': 0 });
  }

  response.end();
});

// longer than the relay keeps a connection that it has no use for

server.keepAliveTimeout = 90 * 1000;

server.listen(port, '127.0.0.1', () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
