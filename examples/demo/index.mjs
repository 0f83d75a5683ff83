// The story of sticky mode, on one command: two app processes' worth of Express, two nodes, a balancer, and crashes.
// `--memcached` uses two real memcached servers instead of nodes in this process.
import assert from 'node:assert/strict'
import { startBalancer } from './balancer.mjs'
import { memcachedNodes, memoryNodes } from './nodes.mjs'
import { startShop } from './shop.mjs'

const SHOPPERS = 20
const useMemcached = process.argv.includes('--memcached')
const say = (text) => console.log(text)

const nodes = await (useMemcached ? memcachedNodes() : memoryNodes())
const t1 = await startShop({ route: 't1', failoverNode: 'm1', nodes })
const t2 = await startShop({ route: 't2', failoverNode: 'm2', nodes })
const balancer = await startBalancer([t1, t2])

/** Somebody with a browser: keeps the cookie, and remembers what should be in the cart. */
const shoppers = Array.from({ length: SHOPPERS }, (_, i) => ({ name: `shopper${i + 1}`, cookie: undefined, cart: [] }))

async function visit(shopper, path) {
  const response = await fetch(balancer.url + path, { headers: shopper.cookie ? { cookie: shopper.cookie } : {} })
  const announced = response.headers.get('set-cookie')
  if (announced) shopper.cookie = announced.split(';')[0]
  assert.equal(response.status, 200, `${path} answered ${response.status}`)
  return response.json()
}

async function buy(item) {
  for (const shopper of shoppers) {
    shopper.cart.push(item)
    await visit(shopper, `/buy/${item}`)
  }
}

/** Every shopper still has name and cart, and the id says where the session is. */
async function check(pattern) {
  let lost = 0
  for (const shopper of shoppers) {
    const { user, cart, id } = await visit(shopper, '/cart')
    if (user !== shopper.name || cart?.join() !== shopper.cart.join()) lost++
    else assert.match(id, pattern)
  }
  const example = shoppers[0].cookie.replace('JSESSIONID=', '')
  say(`   The first shopper's session: ${example}, in the cart: ${shoppers[0].cart.join(', ')}\n`)
  assert.equal(lost, 0, `${lost} sessions lost`)
}

const until = async (condition) => {
  const limit = Date.now() + 10_000
  while (!condition()) {
    assert.ok(Date.now() < limit, 'waited for 10 s in vain')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
const sees = (shop, node, state) => () => shop.nodes().find(({ id }) => id === node).state === state

try {
  say(`
   <t1>   <t2>     Two app processes behind a balancer, and two ${useMemcached ? 'memcached servers' : 'nodes'}.
    . \\   / .      t1 keeps its sessions in memory and backs them up on m2,
    .   X   .      t2 does so on m1: each on the machine it does not share.
    . /   \\ .
   <m1>   <m2>
`)
  say(`1. ${SHOPPERS} shoppers log in and put a book into their carts. The balancer spreads them over t1 and t2.`)
  for (const shopper of shoppers) await visit(shopper, `/login/${shopper.name}`)
  await buy('book')
  await check(/^[0-9A-F]{32}-(m2\.t1|m1\.t2)$/)

  say(
    '2. m2 is killed. t1 has its sessions in memory, and stores them on m1 now: the node id in their cookies changes.',
  )
  await nodes.kill('m2')
  await until(sees(t1, 'm2', 'down'))
  await buy('pen')
  await check(/^[0-9A-F]{32}-m1\.(t1|t2)$/)

  say('3. t1 is killed, with all it had in memory. t2 finds the backups on m1: the route in the cookies changes.')
  if (process.env.DEMO_SABOTAGE) await nodes.kill('m1')
  await t1.kill()
  await buy('lamp')
  await check(/^[0-9A-F]{32}-m1\.t2$/)

  say('4. m2 comes back, empty, and t1 is started again. Shopping goes on, and new shoppers go to both.')
  await nodes.start('m2')
  await t1.start()
  await until(sees(t2, 'm2', 'up'))
  await buy('chair')
  await check(/^[0-9A-F]{32}-m1\.t2$/)

  say('5. m1 is killed, where all of these sessions are: t2 moves them to m2.')
  await nodes.kill('m1')
  await until(sees(t2, 'm1', 'down'))
  await buy('mug')
  await check(/^[0-9A-F]{32}-m2\.t2$/)

  say('6. m1 comes back, and t2 is killed: t1 takes all of its sessions over.')
  await nodes.start('m1')
  await until(sees(t1, 'm1', 'up'))
  await t2.kill()
  await buy('rug')
  await check(/^[0-9A-F]{32}-m2\.t1$/)
  say('0 sessions lost')
} catch (error) {
  say(`The demo failed: ${error.message}`)
  process.exitCode = 1
} finally {
  await balancer.stop()
  await t1.stop()
  await t2.stop()
  await nodes.stop()
}
