import { describe, expect, test } from 'vitest'
import { GrammarError, isRedisUrl, parseRedisUrl } from '../../lib/nodes/redis-url.ts'

describe('a Redis URL', () => {
  test('gives user, password, host, port and db', () => {
    expect(parseRedisUrl('redis://user:pwd@cache:6380/2')).toEqual({
      topology: 'single',
      tls: false,
      username: 'user',
      password: 'pwd',
      hosts: [{ host: 'cache', port: 6380 }],
      db: 2,
      masterName: undefined,
      query: '',
      label: 'redis://cache:6380/2',
    })
  })

  test.each([
    ['redis://h', undefined, undefined],
    ['redis://:pwd@h', undefined, 'pwd'],
    ['redis://user@h', 'user', undefined],
    ['redis://user:@h', 'user', undefined],
    ['redis://u%3Aser:p%40ss@h', 'u:ser', 'p@ss'],
    ['redis://:p@ss@h', undefined, 'p@ss'],
    ['redis://:a:b@h', undefined, 'a:b'],
    ['redis://:a%2Fb%25c+d@h', undefined, 'a/b%c+d'],
  ])('%s has user %s and password %s (GH327)', (url, username, password) => {
    expect(parseRedisUrl(url)).toMatchObject({ username, password, hosts: [{ host: 'h', port: 6379 }] })
  })

  test('names Sentinels and their master, or members of a Cluster', () => {
    expect(parseRedisUrl('rediss+sentinel://:pwd@s1,[::1]:7/main/3')).toMatchObject({
      topology: 'sentinel',
      tls: true,
      hosts: [
        { host: 's1', port: 26379 },
        { host: '::1', port: 7 },
      ],
      masterName: 'main',
      db: 3,
    })
    expect(parseRedisUrl('redis+cluster://c1,c2:7001')).toMatchObject({
      topology: 'cluster',
      tls: false,
      hosts: [
        { host: 'c1', port: 6379 },
        { host: 'c2', port: 7001 },
      ],
      masterName: undefined,
    })
  })

  test('keeps a query for the adapter, and out of the label', () => {
    expect(parseRedisUrl('redis://h/1?family=6')).toMatchObject({ db: 1, query: 'family=6', label: 'redis://h:6379/1' })
    expect(parseRedisUrl('redis://h?family=6')).toMatchObject({ db: 0, query: 'family=6' })
  })

  test('does not take a piece of a password for the host', () => {
    for (const url of ['redis://h/0?name=a@b', 'redis://:a/b@h', 'redis://:a#b@h', 'redis://:a?b@h']) {
      expect(() => parseRedisUrl(url)).toThrow(GrammarError)
    }
  })

  test('is told from other URLs', () => {
    expect(['redis://h', 'REDISS://h', 'redis+cluster://h'].every(isRedisUrl)).toBe(true)
    expect(['redis:6379', 'http://h', 'xredis://h', 'redis+x://h'].some(isRedisUrl)).toBe(false)
    expect(() => parseRedisUrl('http://h')).toThrow(GrammarError)
  })
})
