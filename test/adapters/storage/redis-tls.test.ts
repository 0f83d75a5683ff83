import { connect as connectTo } from 'node:net'
import tls from 'node:tls'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { redisStorage } from '../../../adapters/storage/redis.ts'
import type { StorageClient } from '../../../lib/ports.ts'
import { clientOptions } from '../../contract/storage-client.ts'
import { freePort, type Server, startRedis } from '../../support/servers.ts'
import { TcpProxy } from '../../support/tcp-proxy.ts'

/** Made for this test, for the name localhost, by itself; good for nothing else. */
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBYjCCAQegAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABOjuneTT90rW2IMR
Yk+dINrg3ixHr9zxqFc/BRjqcji8C6NhOb5Fp0sp4WwNFqTHpXT/2sYjOAp46DW4
+dRvlQ6jSDBGMBQGA1UdEQQNMAuCCWxvY2FsaG9zdDAPBgNVHRMBAf8EBTADAQH/
MB0GA1UdDgQWBBQmbyogctEx+HCUjmprmzWs6g0kZzAKBggqhkjOPQQDAgNJADBG
AiEA5W6VLuPnkhx1E7+gPgjHMewKgg/j7AlMcpLF4lwdeqwCIQD36NnwMeimAxnA
wpgEkG00f9odH8yWkJCO1ln3sg2heA==
-----END CERTIFICATE-----`
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgdQ02dEvq6vDVttNz
i22Cfe0hw8zkdppGjrl6F5mwUyqhRANCAATo7p3k0/dK1tiDEWJPnSDa4N4sR6/c
8ahXPwUY6nI4vAujYTm+RadLKeFsDRakx6V0/9rGIzgKeOg1uPnUb5UO
-----END PRIVATE KEY-----`

describe('The Redis client over TLS', () => {
  let redis: Server
  let front: tls.Server
  let port: number
  let client: StorageClient
  const names: unknown[] = []
  const open = (host: string, at = port): StorageClient => {
    const label = `rediss://${host}:${at}/0`
    const url = `rediss://:secret@${host}:${at}`
    client = redisStorage({ nodeId: undefined, kind: 'redis', host, port: at, url, label }, clientOptions)
    return client
  }
  /** What NODE_EXTRA_CA_CERTS does, which is read only when a process starts. */
  const trustCertificate = (): void => {
    const connect = tls.connect as (options: tls.ConnectionOptions) => tls.TLSSocket
    vi.spyOn(tls, 'connect').mockImplementation(((options: tls.ConnectionOptions) =>
      connect({ ...options, ca: CERTIFICATE })) as typeof tls.connect)
  }

  beforeAll(async () => {
    redis = await startRedis({ args: ['--requirepass', 'secret'] })
    port = await freePort()
    front = tls.createServer({ key: KEY, cert: CERTIFICATE }, (socket) => {
      names.push((socket as tls.TLSSocket & { servername?: string }).servername)
      const upstream = connectTo(redis.port, redis.host)
      socket.pipe(upstream).pipe(socket)
      socket.on('error', () => upstream.destroy())
      upstream.on('error', () => socket.destroy())
    })
    await new Promise<void>((resolve) => front.listen(port, '127.0.0.1', resolve))
  })
  afterEach(async () => {
    vi.restoreAllMocks()
    await client.close()
  })
  afterAll(async () => {
    await new Promise((resolve) => front.close(resolve))
    await redis.stop()
  })

  it('stores and reads, and names the host that it wants', async () => {
    trustCertificate()
    await open('localhost').set('k', Buffer.from('value'), 100)
    expect((await client.get('k'))?.value.toString()).toBe('value')
    expect(names).toEqual(['localhost'])
    client.reset()
    expect(await client.delete('k')).toBe(true)
  })

  it('refuses a certificate that nobody it trusts has signed', async () => {
    await expect(open('localhost').get('k')).rejects.toMatchObject({
      code: 'ERR_MSM_NODE_UNAVAILABLE',
      cause: { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' },
    })
  })

  it('refuses the certificate of another host', async () => {
    trustCertificate()
    await expect(open('127.0.0.1').get('k')).rejects.toMatchObject({
      code: 'ERR_MSM_NODE_UNAVAILABLE',
      cause: { code: 'ERR_TLS_CERT_ALTNAME_INVALID' },
    })
  })

  it('ends a handshake that a server does not answer, on a reset and on close', async () => {
    const proxy = await TcpProxy.start({ host: '127.0.0.1', port })
    proxy.blackhole()
    open('localhost', proxy.port)
    const first = client.get('k')
    void vi.waitFor(() => expect(proxy.bytes.held).toBeGreaterThan(0), { interval: 2 }).then(() => client.reset())
    await expect(first).rejects.toMatchObject({ code: 'ERR_MSM_NODE_UNAVAILABLE' })
    const second = client.get('k')
    setTimeout(() => void client.close(), 20)
    await expect(second).rejects.toMatchObject({ code: 'ERR_MSM_STATE' })
    await proxy.stop()
  })
})
