import { isIP } from 'node:net'
import type * as IORedis from 'ioredis'
import { parseRedisUrl, type RedisUrl } from '../../lib/nodes/redis-url.ts'
import type { NodeAddress, StorageClientOptions } from '../../lib/ports.ts'
import { loadPackage } from '../load-package.ts'

/** Milliseconds; a handshake that takes longer is given up, even if an operation may take longer. */
const MAX_CONNECT_TIMEOUT = 500
/** How often a Cluster may send a command on to another node. */
const MAX_REDIRECTIONS = 5

/** KEYS[1], digest of the base, new value, expiry in seconds or 0. */
const COMPARE_AND_SWAP = `
local current = redis.call('GET', KEYS[1])
if not current then return 0 end
if redis.sha1hex(current) ~= ARGV[1] then return 1 end
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
return 2
`

/** KEYS[1], the value it must hold. */
const DELETE_IF_EQUALS = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`

const SCRIPTS = {
  msmCompareAndSwap: { lua: COMPARE_AND_SWAP, numberOfKeys: 1 },
  msmDeleteIfEquals: { lua: DELETE_IF_EQUALS, numberOfKeys: 1 },
}

/** A single server, the master of a Sentinel group, or a whole Cluster. */
export type RedisClient = IORedis.Redis | IORedis.Cluster

/** @throws SessionManagerError `ERR_MSM_MISSING_PACKAGE` if ioredis is not installed. */
export function loadIORedis(): typeof IORedis {
  const ioredis = loadPackage<typeof IORedis>('ioredis', 'Redis nodes in memcachedNodes')
  speedUpStrings()
  return ioredis
}

/**
 * ioredis extends String. When a class does, V8 (that of Node 20) gives up what it knows of String.prototype: `charCodeAt`
 * takes five times as long from then on, in the whole process, and msgpackr three times. Enough property reads through the
 * prototype make V8 look at it again.
 */
function speedUpStrings(): void {
  const string: string = Object('')
  let read: unknown
  for (let i = 0; i < 1000 || read === undefined; i++) read = string.charCodeAt
}

export function isCluster(address: NodeAddress): boolean {
  return urlOf(address)?.topology === 'cluster'
}

/**
 * The only place that knows how Redis is reached. Neither a queue nor a resend nor a retry of the client may send a command
 * later than it was asked to: it would overwrite what was written meanwhile. A client that lost its connection has ended;
 * finding the master, or the Cluster, again is the business of the next one.
 */
export function createRedisClient(address: NodeAddress, { operationTimeout, tls }: StorageClientOptions): RedisClient {
  const { Redis, Cluster } = loadIORedis()
  const url = urlOf(address)
  const host = url?.hosts[0]?.host ?? address.host
  const port = url?.hosts[0]?.port ?? address.port
  const connectTimeout = Math.min(MAX_CONNECT_TIMEOUT, operationTimeout)
  const login = { username: url?.username, password: url?.password }
  const connection = {
    ...login,
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
    // Whoever calls has a deadline and ends the connection when it has passed; these keep the client from hanging if not.
    connectTimeout,
    socketTimeout: 2 * operationTimeout,
    disconnectTimeout: 1,
    // Its timer would outlive the connection, and a server that is loading says so by itself.
    enableReadyCheck: false,
    // No reply type of version 3 is used, and some proxies and old servers don't know it.
    protocol: 2 as const,
    disableClientInfo: true,
    tls: url?.tls ? { servername: isIP(host) ? '' : host, ...tls } : undefined,
  }
  const hosts = url?.hosts.map((one) => ({ host: one.host, port: one.port })) ?? []
  if (url?.topology === 'cluster') {
    return new Cluster(hosts, {
      lazyConnect: true,
      // Here it only holds commands for a node that is being connected to, which takes no longer than `connectTimeout`.
      enableOfflineQueue: true,
      enableReadyCheck: false,
      clusterRetryStrategy: () => null,
      maxRedirections: MAX_REDIRECTIONS,
      // 0: a command whose connection broke is not sent again.
      retryDelayOnFailover: 0,
      retryDelayOnClusterDown: 0,
      slotsRefreshTimeout: connectTimeout,
      // A silent node must not take the others down with it, so its commands end before the deadline of the caller.
      redisOptions: { ...connection, commandTimeout: Math.ceil(0.9 * operationTimeout) },
      scripts: SCRIPTS,
    })
  }
  if (url?.topology === 'sentinel') {
    return new Redis({
      ...connection,
      sentinels: hosts,
      name: url.masterName,
      db: url.db,
      role: 'master',
      sentinelRetryStrategy: () => null,
      sentinelCommandTimeout: connectTimeout,
      enableTLSForSentinelMode: url.tls,
      sentinelTLS: connection.tls,
      scripts: SCRIPTS,
    })
  }
  return new Redis({ ...connection, host, port, db: url?.db ?? 0, scripts: SCRIPTS })
}

function urlOf(address: NodeAddress): RedisUrl | undefined {
  return address.url === undefined ? undefined : parseRedisUrl(address.url)
}
