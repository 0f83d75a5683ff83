/** The value below which `part` of the numbers lie, interpolated. */
export function quantile(numbers, part) {
  const sorted = [...numbers].sort((a, b) => a - b)
  const at = (sorted.length - 1) * part
  const below = sorted[Math.floor(at)]
  return below + (sorted[Math.ceil(at)] - below) * (at % 1)
}

export const median = (numbers) => quantile(numbers, 0.5)

/** Half the distance between the quartiles: half of all rounds lie within the median plus or minus about this. */
export const spread = (numbers) => (quantile(numbers, 0.75) - quantile(numbers, 0.25)) / 2
