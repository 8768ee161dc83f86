// dockerode over what its users use most: builds (classic and BuildKit), streams of attach and exec, logs, events, statistics.
const assert = require("node:assert");
const fs = require("node:fs");
const Docker = require("dockerode");

const docker = new Docker({socketPath: process.env.DOCKER_HOST.replace("unix://", "")});
const context = fs.mkdtempSync(`${process.env.HOME}/context-`);

function follow(stream) {
  return new Promise((done, failed) => docker.modem.followProgress(stream, (e, all) => e ? failed(e) : done(all)));
}

// What a stream with frames has on standard output, up to its end.
function read(stream) {
  let text = "";
  docker.modem.demuxStream(stream, {write: (d) => text += d}, {write: () => 0});
  return new Promise((done) => stream.on("end", () => done(text)));
}

async function build(version) {
  const tag = `built-${version}`;
  fs.writeFileSync(`${context}/Dockerfile`, "FROM busybox\nCOPY file /file\nRUN tr a-z A-Z </file >/other\nCMD [\"cat\", \"/other\"]\n");
  fs.writeFileSync(`${context}/file`, "content\n");
  const all = await follow(await docker.buildImage({context, src: ["Dockerfile", "file"]}, {t: tag, version}));
  assert(!all.some((line) => line.error), JSON.stringify(all));
  const container = await docker.createContainer({Image: tag, HostConfig: {AutoRemove: true}});
  const stream = await container.attach({stream: true, stdout: true});
  const output = read(stream);
  await container.start();
  assert.equal(await output, "CONTENT\n");
}

async function streams() {
  const container = await docker.createContainer({Image: "busybox", Cmd: ["cat"], OpenStdin: true, StdinOnce: true, Labels: {of: "node"}});
  const stream = await container.attach({stream: true, stdin: true, stdout: true, hijack: true});
  const output = read(stream);
  await container.start();
  stream.write("through and back\n");
  stream.end();
  assert.equal(await output, "through and back\n");
  assert.equal((await container.wait()).StatusCode, 0);
  assert.equal((await container.logs({stdout: true})).toString("utf8").slice(8), "through and back\n");
  const list = await docker.listContainers({all: true, filters: {label: ["of=node"]}});
  assert.deepEqual(list.map((c) => c.Id), [container.id]);
  await container.remove();
}

async function inside() {
  const container = await docker.createContainer({Image: "busybox", Cmd: ["sleep", "1000"]});
  const events = await docker.getEvents({filters: {container: [container.id], event: ["die"]}});
  const died = new Promise((done) => events.once("data", (line) => done(JSON.parse(line))));
  await container.start();
  const exec = await container.exec({Cmd: ["sh", "-c", "cat; exit 3"], AttachStdin: true, AttachStdout: true});
  const stream = await exec.start({hijack: true, stdin: true});
  const output = read(stream);
  stream.write("in\n");
  stream.end();
  assert.equal(await output, "in\n");
  assert.equal((await exec.inspect()).ExitCode, 3);
  assert((await container.stats({stream: false})).memory_stats.usage > 0);
  await container.kill();
  assert.equal((await died).Actor.Attributes.exitCode, "137");
  events.destroy();
  await container.remove();
}

(async () => {
  await build("1");
  await build("2");
  await streams();
  await inside();
})().catch((e) => {
  console.error(e);
  process.exit(1);
});
