import type { SessionRequest, WebBinding } from '../session/session-exchange.ts'
import type { SessionContext } from '../session-context.ts'

/** True if the request came by https, as far as proxies are trusted: by the framework, unless the option `proxy` says. */
export function isSecureRequest<R extends SessionRequest>(
  request: R,
  binding: WebBinding<R>,
  proxy: boolean | undefined,
): boolean {
  if (proxy === undefined) return binding.isSecure(request)
  if ((request.socket as { encrypted?: boolean } | undefined)?.encrypted === true) return true
  return proxy && forwardedProtocol(request) === 'https'
}

/** A cookie that never comes back is the most common mistake behind a proxy, and browsers don't tell. Warns once. */
export function warnOfDroppedCookie<R extends SessionRequest>(
  { warned, options, logger }: SessionContext,
  request: R,
  binding: WebBinding<R>,
  isSecureCookie: boolean,
): void {
  if (warned.droppedCookie) return
  const forwarded = forwardedProtocol(request)
  if (isSecureCookie) {
    // A proxy that says https may be right, though nobody trusts it: then the browser takes the cookie.
    if (forwarded === 'https' || isSecureRequest(request, binding, options.proxy)) return
    warned.droppedCookie = true
    logger.warn(
      'The session cookie is Secure, but a request did not come by https: browsers drop it, except on localhost. Serve ' +
        "https, or set cookie.secure: 'auto'.",
    )
    return
  }
  if (forwarded !== 'https' || options.proxy === false) return
  warned.droppedCookie = true
  logger.warn(
    'A request came to the proxy by https (X-Forwarded-Proto), but the proxy is not trusted, so the session cookie is not ' +
      "Secure. Trust it (Express: app.set('trust proxy', 1), Koa: app.proxy = true, Fastify: trustProxy), or set proxy: true.",
  )
}

function forwardedProtocol({ headers }: SessionRequest): string | undefined {
  const value = headers['x-forwarded-proto']
  return typeof value === 'string' ? value.split(',')[0]!.trim().toLowerCase() : undefined
}
