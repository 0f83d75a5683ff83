/** Characters of a URL that are looked at: what a pattern can cost grows with the length. */
const MAX_LENGTH = 8192

/**
 * True if the pattern matches the whole of the path, of path and query, of `METHOD path?query` or of `METHOD path`.
 * MSM compares with the third of these (for POST with the fourth) and documents the first (GH198, GH401), so that both
 * `.*\.(png|css)$` and `uriPattern:/path1|/path2` do what they say.
 *
 * @param pattern anchored at both ends, as the options make it
 * @param url path and query as they stand in the request line
 */
export function matchesUriPattern(
  pattern: RegExp,
  request: { readonly method?: string | undefined },
  url: string,
): boolean {
  const target = url.length > MAX_LENGTH ? url.slice(0, MAX_LENGTH) : url
  const query = target.indexOf('?')
  if (pattern.test(target)) return true
  const path = query < 0 ? undefined : target.slice(0, query)
  if (path !== undefined && pattern.test(path)) return true
  const method = request.method ?? 'GET'
  return pattern.test(`${method} ${target}`) || (path !== undefined && pattern.test(`${method} ${path}`))
}
