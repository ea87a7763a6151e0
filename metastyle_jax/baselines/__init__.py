"""Other methods of style transfer, with which MetaStyle is compared.

`gatys` optimizes the pixels of one image, `johnson` trains one network for one style, and
`feature_matching` uses one network for any style without adaptation.
"""
