// What tests written with testcontainers do: a network with aliases, waiting in all ways, files copied in, images built.
const assert = require("node:assert");
const fs = require("node:fs");
const {GenericContainer, Network, Wait} = require("testcontainers");

const context = fs.mkdtempSync(`${process.env.HOME}/context-`);
const server = ["sh", "-c", "echo ready; echo body >/tmp/index.html; httpd -f -p 8080 -h /tmp"];

(async () => {
  const network = await new Network().start();
  const web = await new GenericContainer("busybox").withCommand(server).withExposedPorts(8080).withNetwork(network)
    .withNetworkAliases("web").withCopyContentToContainer([{content: "copied", target: "/x/y"}])
    .withHealthCheck({test: ["CMD-SHELL", "true"], interval: 1000, timeout: 5000, retries: 3, startPeriod: 0})
    .withWaitStrategy(Wait.forAll([Wait.forListeningPorts(), Wait.forLogMessage("ready"), Wait.forHealthCheck(), Wait.forHttp("/", 8080)]))
    .start();
  assert.equal(await (await fetch(`http://${web.getHost()}:${web.getMappedPort(8080)}/`)).text(), "body\n");
  assert.equal((await web.exec(["cat", "/x/y"])).output, "copied");
  const client = await new GenericContainer("busybox").withCommand(["sleep", "1000"]).withNetwork(network).start();
  assert.equal((await client.exec(["wget", "-qO-", "http://web:8080/"])).output, "body\n");
  assert.equal((await client.exec(["sh", "-c", "exit 5"])).exitCode, 5);
  fs.writeFileSync(`${context}/Dockerfile`, "FROM busybox\nRUN echo built >/built\nCMD [\"cat\", \"/built\"]\n");
  const image = await GenericContainer.fromDockerfile(context).build();
  const once = await image.withWaitStrategy(Wait.forOneShotStartup()).start();
  const logs = await once.logs();
  assert.equal(await new Promise((done) => logs.once("data", (d) => done(String(d).trim()))), "built");
  await web.restart();
  for (const container of [once, client, web])
    await container.stop();
  await network.stop();
})().catch((e) => {
  console.error(e);
  process.exit(1);
});
