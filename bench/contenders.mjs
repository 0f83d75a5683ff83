const express = (name, session) => ({ name, framework: 'express', bare: 'Express', session })
const koa = (name, session) => ({ name, framework: 'koa', bare: 'Koa', session })
const fastify = (name, session) => ({ name, framework: 'fastify', bare: 'Fastify', session })
const none = { kind: 'none' }

const MODES = [
  ['sticky', 'memcached', {}],
  ...['none', 'all', 'optimistic'].flatMap((lockingMode) => [
    [`non-sticky memcached, ${lockingMode}`, 'memcached', { sticky: false, lockingMode }],
    [`non-sticky Redis, ${lockingMode}`, 'redis', { sticky: false, lockingMode }],
  ]),
]
const ours = (make, framework) =>
  MODES.map(([mode, nodes, options]) => make(`${framework}: ours, ${mode}`, { kind: 'ours', nodes, options }))
const ignoring = (make, framework) =>
  [MODES[0], MODES.at(-1)].map(([mode, nodes, options]) =>
    make(`${framework}: ours, ${mode}, ignored`, {
      kind: 'ours',
      nodes,
      options: { ...options, requestUriIgnorePattern: '/none|.*\\.(ico|png|gif|jpg|css|js)$' },
    }),
  )

const contenders = [
  express('Express', none),
  express('Express: a middleware that does nothing', { kind: 'empty' }),
  express('Express: express-session + MemoryStore', { kind: 'express-session' }),
  express('Express: express-session + connect-memcached', { kind: 'express-session', store: 'memcached' }),
  express('Express: express-session + connect-redis', { kind: 'express-session', store: 'redis' }),
  ...ours(express, 'Express'),
  ...ignoring(express, 'Express'),
  koa('Koa', none),
  koa('Koa: koa-session + memory', { kind: 'koa-session' }),
  koa('Koa: koa-session + ioredis', { kind: 'koa-session', store: 'redis' }),
  ...ours(koa, 'Koa'),
  fastify('Fastify', none),
  fastify('Fastify: @fastify/session + memory', { kind: '@fastify/session' }),
  fastify('Fastify: @fastify/session + connect-redis', { kind: '@fastify/session', store: 'redis' }),
  ...ours(fastify, 'Fastify'),
]

/** What is to be reached: the added cost of ours as a part of the peer's. */
export const targets = [
  ['read', 'Express: ours, sticky', 0.25, 'Express: express-session + MemoryStore'],
  ['write', 'Express: ours, sticky', 0.4, 'Express: express-session + connect-memcached'],
  ['read', 'Express: ours, non-sticky Redis, none', 0.4, 'Express: express-session + connect-redis'],
  ['write', 'Express: ours, non-sticky Redis, none', 0.5, 'Express: express-session + connect-redis'],
  ['read', 'Express: ours, non-sticky memcached, none', 0.5, 'Express: express-session + connect-memcached'],
  ['write', 'Express: ours, non-sticky memcached, none', 0.5, 'Express: express-session + connect-memcached'],
  ['write', 'Express: ours, non-sticky Redis, optimistic', 0.7, 'Express: express-session + connect-redis'],
  ['read', 'Koa: ours, sticky', 0.5, 'Koa: koa-session + memory'],
  ['write', 'Koa: ours, sticky', 0.5, 'Koa: koa-session + memory'],
  ['read', 'Fastify: ours, sticky', 0.5, 'Fastify: @fastify/session + memory'],
  ['write', 'Fastify: ours, sticky', 0.5, 'Fastify: @fastify/session + memory'],
]
/** What a request that is ignored by pattern may cost in either mode, in microseconds. */
export const IGNORED_LIMIT = 2
export const IGNORED = ['Express: ours, sticky, ignored', 'Express: ours, non-sticky Redis, optimistic, ignored']

/** Stands for a body that counts, in place of one that is known. */
export const COUNT = 'count'
const ROUTES = {
  none: { path: '/none', expected: 'none' },
  read: { path: '/read', expected: 'en-GB' },
  write: { path: '/write', expected: COUNT },
}

/** The routes by what is done on them: those of `works`, and with `isQuick` only those that the targets speak of. */
export function worksOf({ name, session }, isQuick, works = ['none', 'read', 'write']) {
  if (IGNORED.includes(name) || session.kind === 'empty') return works.includes('none') ? { none: ROUTES.none } : {}
  const isPeer = (work) => targets.some(([asked, own, , peer]) => asked === work && (name === own || name === peer))
  const asked = works.filter((work) => !isQuick || session.kind === 'none' || isPeer(work))
  return Object.fromEntries(asked.map((work) => [work, ROUTES[work]]))
}

/** The contenders with work to do whose name holds `only`, and the bare frameworks they are measured by. */
export function chooseContenders(isQuick, only = '', works = undefined) {
  const isAsked = (one) => one.name.includes(only) && Object.keys(worksOf(one, isQuick, works)).length > 0
  const chosen = contenders.filter(isAsked)
  const bare = new Set(chosen.map((one) => one.bare))
  return contenders.filter((one) => chosen.includes(one) || bare.has(one.name))
}
