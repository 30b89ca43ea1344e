// The published Node SDK as a member of a fleet: a JSON command on each line of stdin, its answer on stdout.

import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { SchematicClient } from "@schematichq/schematic-typescript-node";
import { createClient } from "redis";

const settings = JSON.parse(process.argv[2]);
const redis = createClient({ url: settings.redis });
await redis.connect();
const client = new SchematicClient({
  apiKey: settings.apiKey,
  basePath: settings.url,
  eventCaptureBaseURL: settings.url,
  useDataStream: true,
  logLevel: "error",
  creditLeases: {
    mode: "client",
    redisClient: redis,
    defaultLeaseSize: settings.leaseSize,
    // A sweep is made when it is asked for.
    sweepIntervalMs: 3_600_000,
  },
});

const actions = {
  // The start does not wait for the flags, and without them the API is asked.
  async stream({ flag }) {
    while (!(await client.datastreamClient.getFlag(flag))) await setTimeout(20);
    return null;
  },
  async prewarm({ company, credit }) {
    await client.prewarm({ company }, [credit]);
    return null;
  },
  async check({ flag, company, user, usage }) {
    const result = await client.check({ company, user }, flag, { usage });
    return { allowed: result.allowed, reason: result.reason, hold: result.reservation ?? null };
  },
  async settle({ hold, quantity }) {
    await client.trackWithReservation({ ...hold, expiresAt: new Date(hold.expiresAt) }, quantity);
    return null;
  },
  async sweep() {
    return await client.reservations.sweepExpired();
  },
  async reserved({ companyId, credit }) {
    return await client.reservations.reservedCredits(companyId, credit);
  },
  async close() {
    await client.close();
    await redis.quit();
    return null;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { action, ...given } = JSON.parse(line);
  let answer;
  try {
    answer = { value: await actions[action](given) };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
  if (action === "close") process.exit(0);
}
