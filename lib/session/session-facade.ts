import { inspect } from 'node:util'
import type { SessionAttributes } from '../ports.ts'
import type { Session } from './session.ts'

/** What a facade needs from the request it was made for. */
export interface FacadeHost {
  /** The session, created now if the request has none. @throws SessionManagerError ERR_MSM_TOO_MANY_SESSIONS */
  createSession(): Session
  isStoredAttribute(name: string): boolean
}

/** Reaches the handler behind a facade; only the facade's own methods know this symbol. */
const HANDLER: unique symbol = Symbol('session facade handler')
const EMPTY: SessionAttributes = {}

/**
 * The property bag an app holds as `req.session`: attributes by name, plus the properties and methods of `api`, which
 * win over attributes of the same name and are not enumerable.
 *
 * It is made for each request, so that methods such as `regenerate` know which request they belong to although the
 * session is shared, and it remembers whether the request may have changed anything: a request that only read strings,
 * numbers and booleans can't have, and costs no serialisation.
 */
export class SessionFacade<H extends FacadeHost = FacadeHost> implements ProxyHandler<object> {
  readonly host: H
  readonly proxy: object
  session: Session | undefined
  /** True once the request was given an attribute or has set one. */
  accessed = false
  /** True once the request may have changed an attribute: it set one, or holds an object that it can change. */
  mayHaveChanged = false

  constructor(host: H, session: Session | undefined, target: object) {
    this.host = host
    this.session = session
    this.proxy = new Proxy(target, this)
  }

  get(target: object, key: string | symbol, receiver: unknown): unknown {
    if (typeof key === 'symbol') return key === HANDLER ? this : Reflect.get(target, key, receiver)
    if (key in target) {
      const attributes = this.session?.attributes
      // Object.prototype's names are the app's to use; only the API's own names are reserved.
      if (attributes && key in Object.prototype && Object.hasOwn(attributes, key)) return attributes[key]
      return Reflect.get(target, key, receiver)
    }
    const attributes = this.session?.attributes
    if (attributes === undefined || !Object.hasOwn(attributes, key)) {
      this.accessed = true
      return undefined
    }
    return this.#handOut(key, attributes[key])
  }

  set(target: object, key: string | symbol, value: unknown, receiver: unknown): boolean {
    if (typeof key === 'symbol') return false
    if (isReserved(target, key)) return Reflect.set(target, key, value, receiver)
    this.session ??= this.host.createSession()
    const { attributes } = this.session
    this.accessed = true
    const unchanged = typeof value !== 'object' && Object.hasOwn(attributes, key) && Object.is(attributes[key], value)
    if (!unchanged && this.host.isStoredAttribute(key)) this.mayHaveChanged = true
    // defineProperty: `__proto__` is a name like any other here, and never changes the bag's prototype.
    if (key === '__proto__') Object.defineProperty(attributes, key, dataProperty(value))
    else attributes[key] = value
    return true
  }

  deleteProperty(target: object, key: string | symbol): boolean {
    if (typeof key === 'symbol' || isReserved(target, key)) return false
    const attributes = this.session?.attributes
    if (attributes && Object.hasOwn(attributes, key)) {
      this.accessed = true
      if (this.host.isStoredAttribute(key)) this.mayHaveChanged = true
      delete attributes[key]
    }
    return true
  }

  defineProperty(target: object, key: string | symbol, descriptor: PropertyDescriptor): boolean {
    if (typeof key === 'symbol' || isReserved(target, key)) {
      // Reflect.set on an accessor of the API ends here only for names without a setter.
      return false
    }
    if (!('value' in descriptor) || descriptor.configurable === false || descriptor.writable === false) return false
    return this.set(target, key, descriptor.value, this.proxy)
  }

  has(target: object, key: string | symbol): boolean {
    return key in target || (typeof key === 'string' && Object.hasOwn(this.session?.attributes ?? EMPTY, key))
  }

  ownKeys(target: object): string[] {
    this.accessed = true
    // Such as what a session has changed of its cookie: that is kept beside the attributes, and shown by `cookie`.
    return Object.keys(this.session?.attributes ?? EMPTY).filter((key) => !isReserved(target, key))
  }

  getOwnPropertyDescriptor(target: object, key: string | symbol): PropertyDescriptor | undefined {
    const attributes = this.session?.attributes
    if (typeof key === 'symbol' || !attributes || !Object.hasOwn(attributes, key)) return undefined
    if (isReserved(target, key)) return undefined
    return dataProperty(this.#handOut(key, attributes[key]))
  }

  preventExtensions(): boolean {
    return false
  }

  setPrototypeOf(): boolean {
    return false
  }

  #handOut(key: string, value: unknown): unknown {
    this.accessed = true
    if (typeof value === 'object' && value !== null && this.host.isStoredAttribute(key)) this.mayHaveChanged = true
    return value
  }
}

/** The handler behind a proxy, or undefined if `value` is not the proxy of a facade. */
export function facadeOf(value: unknown): SessionFacade | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const handler = (value as { [HANDLER]?: unknown })[HANDLER]
  return handler instanceof SessionFacade ? handler : undefined
}

/** The object behind all proxies of one API: it is never written to, its prototype holds the API. */
export function facadeTarget(api: object): object {
  // Node inspects what is behind a proxy; `console.log(req.session)` is to show the attributes.
  const inspectable = Object.create(api, { [inspect.custom]: { value: attributesOf } })
  return Object.create(inspectable)
}

function attributesOf(this: object): object {
  return { ...this }
}

function isReserved(target: object, key: string): boolean {
  return key in target && !(key in Object.prototype)
}

function dataProperty(value: unknown): PropertyDescriptor {
  return { value, writable: true, enumerable: true, configurable: true }
}
