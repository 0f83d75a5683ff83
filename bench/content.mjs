/** Attributes as an app might have them, of about `size` bytes as JSON. */
export function content(size) {
  const items = Array.from({ length: Math.ceil((size - 115) / 74) }, (_, i) => ({
    sku: `article-${i}`,
    title: 'A thing of beauty',
    count: i,
    price: 9.99,
  }))
  return { user: { id: 17, name: 'Ann Example', roles: ['buyer', 'editor'] }, locale: 'en-GB', views: 0, cart: items }
}
