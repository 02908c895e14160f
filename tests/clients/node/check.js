// node-zookeeper-client: data, watches, ephemerals, sequences, transactions, ACLs, and one session over a restart of the server.
'use strict';

const assert = require('assert');
const { execFile } = require('child_process');
const path = require('path');
const { promisify } = require('util');
const zookeeper = require(path.join(process.env.NODE_CLIENT_DIR, 'node_modules', 'node-zookeeper-client'));
const { ACL, CreateMode, Event, Exception, Id, Permission } = zookeeper;

const WAIT_MS = 60000;

function connect() {
  return new Promise((resolve) => {
    const client = zookeeper.createClient(process.env.ZOO_ADDR, { sessionTimeout: 20000, retries: 3 });
    client.once('connected', () => resolve(client));
    client.connect();
  });
}

// Every method with a callback as one that returns a promise; several results become an array.
function call(client, method, ...args) {
  return new Promise((resolve, reject) => {
    client[method](...args, (error, ...results) => (error ? reject(error) : resolve(results.length > 1 ? results : results[0])));
  });
}

async function fails(promise, code) {
  await assert.rejects(promise, (e) => e.getCode && e.getCode() === code);
}

// A watcher and the promise of its event.
function watcher() {
  let fire;
  const fired = new Promise((resolve) => { fire = resolve; });
  return [fire, fired];
}

async function retried(what) {
  for (;;) {
    try {
      return await what();
    } catch (e) {
      if (!e.getCode || e.getCode() !== Exception.CONNECTION_LOSS) throw e;
      await new Promise((r) => setTimeout(r, 50));
    }
  }
}

async function data(client) {
  assert.strictEqual(await call(client, 'create', '/n', Buffer.from('one')), '/n');
  await fails(call(client, 'create', '/n'), Exception.NODE_EXISTS);
  const [value, stat] = await call(client, 'getData', '/n');
  assert.strictEqual(value.toString(), 'one');
  assert.strictEqual(stat.version, 0);
  assert.strictEqual((await call(client, 'setData', '/n', Buffer.from('two'), 0)).version, 1);
  await fails(call(client, 'setData', '/n', Buffer.from('x'), 0), Exception.BAD_VERSION);
  assert.strictEqual(await call(client, 'create', '/n/s-', CreateMode.PERSISTENT_SEQUENTIAL), '/n/s-0000000000');
  assert.strictEqual(await call(client, 'create', '/n/e-', CreateMode.EPHEMERAL_SEQUENTIAL), '/n/e-0000000001');
  await fails(call(client, 'create', '/n/e-0000000001/x'), Exception.NO_CHILDREN_FOR_EPHEMERALS);
  const [children] = await call(client, 'getChildren', '/n');
  assert.deepStrictEqual(children.sort(), ['e-0000000001', 's-0000000000']);
  await fails(call(client, 'remove', '/n'), Exception.NOT_EMPTY);
  await call(client, 'mkdirp', '/n/deep/er/est');
  assert.ok(await call(client, 'exists', '/n/deep/er/est'));
  assert.strictEqual(await call(client, 'exists', '/n/none'), null);
}

async function watches(client, writer) {
  const [onCreate, created] = watcher();
  assert.strictEqual(await call(client, 'exists', '/w', onCreate), null);
  await call(writer, 'create', '/w');
  assert.strictEqual((await created).getType(), Event.NODE_CREATED);
  const [onData, changed] = watcher();
  await call(client, 'getData', '/w', onData);
  const [onChild, child] = watcher();
  await call(client, 'getChildren', '/w', onChild);
  await call(writer, 'setData', '/w', Buffer.from('1'));
  await call(writer, 'create', '/w/x');
  assert.strictEqual((await changed).getType(), Event.NODE_DATA_CHANGED);
  assert.strictEqual((await child).getType(), Event.NODE_CHILDREN_CHANGED);
  const [onDelete, deleted] = watcher();
  await call(client, 'exists', '/w/x', onDelete);
  await call(writer, 'remove', '/w/x');
  assert.strictEqual((await deleted).getType(), Event.NODE_DELETED);
}

async function transactions(client) {
  const good = client.transaction().create('/t', Buffer.from('1')).setData('/t', Buffer.from('2'), 0).check('/t', 1).remove('/n/s-0000000000');
  await call(good, 'commit');
  assert.strictEqual((await call(client, 'getData', '/t'))[0].toString(), '2');
  await assert.rejects(call(client.transaction().create('/t/x').check('/t', 9), 'commit'));
  assert.strictEqual(await call(client, 'exists', '/t/x'), null);
}

async function acls(client, other) {
  client.addAuthInfo('digest', Buffer.from('u:p'));
  const mine = [new ACL(Permission.ALL, new Id('digest', 'u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ='))];
  await call(client, 'create', '/mine', Buffer.from('s'), mine);
  assert.strictEqual((await call(client, 'getData', '/mine'))[0].toString(), 's');
  await fails(call(other, 'getData', '/mine'), Exception.NO_AUTH);
  const [list] = await call(client, 'getACL', '/mine');
  assert.strictEqual(list[0].id.id, 'u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=');
}

async function restart(client) {
  const id = client.getSessionId().toString('hex');
  await call(client, 'create', '/kept', CreateMode.EPHEMERAL);
  for (const signal of ['TERM', 'KILL']) {
    const lost = new Promise((resolve) => { client.once('disconnected', resolve); });
    const back = lost.then(() => new Promise((resolve) => { client.once('connected', resolve); }));
    await promisify(execFile)(process.env.ZOO_RESTART, [signal]);
    await back;
    assert.ok(await retried(() => call(client, 'exists', '/kept')));
    assert.strictEqual(client.getSessionId().toString('hex'), id);
  }
}

async function main() {
  const client = await connect();
  const other = await connect();
  await data(client);
  await watches(client, other);
  await transactions(client);
  await acls(client, other);
  await restart(client);
  const [onDelete, deleted] = watcher();
  assert.ok(await retried(() => call(other, 'exists', '/kept', onDelete)));
  client.close();
  assert.strictEqual((await deleted).getType(), Event.NODE_DELETED);
  other.close();
}

const tooLong = setTimeout(() => { console.error('node client: no end in sight'); process.exit(1); }, 3 * WAIT_MS);
main().then(
  () => { clearTimeout(tooLong); console.log('node client: all well'); process.exit(0); },
  (error) => { console.error(error); process.exit(1); },
);
